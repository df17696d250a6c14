"""Reading an HTML page in tests: a strict little tree, and what every page must keep to."""

import itertools
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "input", "link"}


@dataclass
class Node:
    tag: str
    attributes: dict[str, str]
    children: list = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, tag=None, **attributes):
        """Elements below, in order; `class_` names one of their classes."""
        found = []
        for child in self.children:
            if isinstance(child, Node):
                if tag in (None, child.tag) and child.has(**attributes):
                    found.append(child)
                found += child.all(tag, **attributes)
        return found

    def has(self, class_=None, **attributes):
        classes = self.attributes.get("class", "").split()
        return (class_ is None or class_ in classes) and attributes.items() <= self.attributes.items()


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open = [Node("page", {})]

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].children.append(data)


def read_page(html: str) -> Node:
    """The page as a tree; fails where tags are not balanced."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert [node.tag for node in reader.open] == ["page"], "not everything is closed"
    return reader.open[0]


def assert_sound(page: Node) -> None:
    """What makes a page valid, accessible and self-contained."""
    (html,) = page.all("html")
    assert html.attributes["lang"]
    assert len(page.all("title")) == len(page.all("h1")) == len(page.all("main")) == 1
    ids = [node.attributes["id"] for node in page.all() if "id" in node.attributes]
    assert len(set(ids)) == len(ids)
    levels = [int(node.tag[1]) for node in page.all() if node.tag in ("h1", "h2", "h3", "h4")]
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels)), levels
    for node in page.all("section"):
        assert node.attributes["aria-labelledby"] in ids
    for table in page.all("table"):
        assert table.all("caption")[0].text.strip()
        rows = [[cell for cell in row.all() if cell.tag in ("td", "th")] for row in table.all("tr")]
        assert len({len(row) for row in rows}) == 1
        assert all(cell.attributes["scope"] == "col" for cell in rows[0])
        assert all(row[0].attributes.get("scope") == "row" for row in rows[1:])
    for node in page.all("img"):
        assert node.attributes["alt"].strip()
        assert node.attributes["src"].startswith("data:image/png;base64,")
    for node in page.all("a"):
        target = node.attributes["href"]
        assert target.startswith(("http://", "https://")) or target[1:] in ids
    loaded = [node for node in page.all() if {"src", "srcset", "action", "background"} & set(node.attributes)]
    assert all(node.tag == "img" for node in loaded)
    assert not [node for node in page.all() if node.tag in ("link", "iframe", "object", "embed", "form", "base")]
    style = "".join(node.text for node in page.all("style"))
    assert "url(" not in style
    assert "@import" not in style
    assert not [node for node in page.all() if any(name.startswith("on") for name in node.attributes)]
