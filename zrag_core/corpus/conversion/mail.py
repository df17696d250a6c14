"""E-mail messages."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage

from zrag_core.corpus.cleaning import clean
from zrag_core.corpus.conversion.html import page_of_html
from zrag_core.corpus.conversion.text_page import CannotConvert, Page, Section

_HEADERS = ("From", "To", "Cc", "Date")


def convert_mail(content: bytes, name: str) -> Page:
    """Who wrote to whom and when, and the body; attachments are named. The subject is the title."""
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    if not message.keys():
        raise CannotConvert("not an e-mail message")
    head = [f"{name}: {' '.join(str(message[name]).split())}" for name in _HEADERS if message[name]]
    part = message.get_body(preferencelist=("plain", "html"))
    body = ""
    if part is not None:
        try:
            body = part.get_content()
        except (LookupError, ValueError) as error:
            raise CannotConvert(f"the message's text cannot be decoded ({error})") from error
        if part.get_content_type() == "text/html":
            body = page_of_html(body).text
    text = clean("\n".join(head) + "\n\n" + body).strip()
    left = [part.get_filename() or "without a name" for part in message.iter_attachments()]
    notes = (f"attachments not read: {', '.join(left)}",) if left else ()
    return Page(text, (Section((), 0, len(text)),), clean(" ".join(str(message["Subject"] or "").split())), notes)
