"""Invented names, and the stable hash that gives every word and number to exactly one pool.

Names are put together from syllables, so no pretrained model knows them. A word belongs to the pool
that its CRC-32 names, whatever it is used for: no part of a name occurs in both pools, although both
are made from the same syllables and therefore from the same tokens.
"""

from __future__ import annotations

import random
import zlib
from functools import cache
from itertools import product
from typing import Literal

from zrag_core.errors import CorpusError

Language = Literal["en", "ko"]
Pool = Literal["skill", "evaluation"]
Role = Literal["given", "family", "place", "other"]

LANGUAGES: tuple[Language, ...] = ("en", "ko")
POOLS: tuple[Pool, ...] = ("skill", "evaluation")

# Role -> beginnings, middles ("-" stands for none) and ends of its words.
_SYLLABLES: dict[Language, dict[Role, tuple[str, str, str]]] = {
    "en": {
        "given": (
            "ad bel cor dor el fen gal hel il jor kal lor mir nor or per quin ros sal tam ul ver wil yor zan bran cal "
            "dun eb fal gri har is jes kor lin mar nim ost pol",
            "- al en ir ov",
            "a an ard ela en eth ia ian ic in ina is o on ora us wen yn iel ett eda une",
        ),
        "family": (
            "am bar cas dal em far gol hav in jas kel lam mor nev ol pav quar rad sev tor uv val wen yar zel bri cro "
            "dre fro gra kle pra skar ston tre vor",
            "- a en i or",
            "ack and ask dane ell enko gren hart ick jan kin lund mott nell ner quist rell ric ron sen ster tane ver "
            "vik wick worth zell dro lin mar",
        ),
        "place": (
            "al ber cal dor el fal gar hol ib jar kel lun mor nar or pel quel rin sal tor un vel wy yel zor bran crow "
            "dun fer gly har ket los mar nev ost pra ros tam",
            "- a e en i o ing",
            "mere holt vik stead burgh ford haven ness wold combe dale mouth stow minster thorpe garth gate moor wich "
            "bury",
        ),
        "other": (
            "am bel cor dal er fal gan hes il jor kar lim mon nel or pal quan rem sol tar ul vin wel yst zem bor cal "
            "dri esk fro gri hal ink jul kru lav mid nov osk",
            "- a e i o an el or",
            "ane ine ova ara ion ius ix une ond ael ista ome usk ave imo",
        ),
    },
    "ko": {
        "given": (
            "가 나 다 도 라 로 리 마 미 베 보 사 세 소 아 에 오 유 이 하 카 테 파 루 은 한 결 별 초 해",
            "- 르 리 나 로 데 미 라 벨 오 야",
            "윤 렌 빈 진 나 라 노 미 엘 온 안 린 솔 담 휘 건 루 아 람 결",
        ),
        "family": (
            "카 벨 도 산 모 하 트 나 소 칼 바 덴 오 그 라 베 루 자 타 코 브 프 스 미",
            "- 르 리 로 마 베 토 나 드",
            "마르 벨 른 도르 센 하트 란 텔 모스 딘 바 노프 크 레스 타 로우 빅 젤 단 카",
        ),
        "place": (
            "벨 누 카 다 모 사 라 에 오 하 로 페 그 니 토 산 미 루 바 아 키 델 호 유",
            "- 르 로 나 리 마 네 베 도 타",
            "하임 노아 빌 산트 가드 레아 몬트 베르크 니아 진 포르 탄 루카 델라 온 로사 스트 란 헤븐 주",
        ),
        "other": (
            "가 네 도 라 무 비 서 아 오 주 카 트 피 하 베 솔 린 모 르 세 이 엘 노 코",
            "- 르 라 니 벤 도 미 카 보 스",
            "벨 란 코 딘 오르 사 엔 토 룬 바 시온 메 키 담 렉 폰 리아 누스",
        ),
    },
}


def pool_of(text: str) -> Pool:
    """The pool that owns `text` (a name word or a number): two thirds go to skill, one to evaluation."""
    return "evaluation" if zlib.crc32(text.casefold().encode("utf-8")) % 3 == 0 else "skill"


@cache
def name_words(language: Language, pool: Pool, role: Role) -> tuple[str, ...]:
    """All words of `pool` for `role`: capitalised, unique, in a fixed order."""
    starts, middles, ends = (part.split() for part in _SYLLABLES[language][role])
    spelled = dict.fromkeys(
        f"{start}{'' if middle == '-' else middle}{end}".capitalize()
        for start, middle, end in product(starts, middles, ends)
    )
    return tuple(word for word in spelled if pool_of(word) == pool)


def pool_number(rng: random.Random, pool: Pool, low: int, high: int, step: int = 1) -> int:
    """A random multiple of `step` in `low..high` (both included) that belongs to `pool`.

    Raises:
        CorpusError: no number of the range belongs to the pool (the range is too narrow).
    """
    for _ in range(200):
        number = rng.randrange(-(-low // step) * step, high + 1, step)
        if pool_of(str(number)) == pool:
            return number
    raise CorpusError(f"no number of the {pool} pool between {low} and {high}", where="almanac")
