"""Which columns look as if they were about people or money: by their values, and by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

EMAIL = r"[A-Za-z0-9._%+'-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+"
PHONE = r"^\s*(\+|00|\(?0)[0-9][0-9 ()./-]{5,20}$"
IBAN = r"^\s*[A-Za-z]{2}[0-9]{2}[A-Za-z0-9 ]{11,36}$"
CARD = r"^\s*[0-9][0-9 -]{11,22}$"

_NAMES = (
    ("an e-mail address", r"e?mail"),
    ("a phone number", r"phone|telephone|mobile|fax|msisdn"),
    ("a bank account", r"iban|account_?(no|number|nr)|bic_?iban"),
    ("a card number", r"card_?(no|number|nr)|pan|credit_?card|cvv|cvc"),
    ("a secret", r"password|passwd|secret|token|api_?key|pin"),
    ("a person's name", r"(first|last|middle|full|family|given|sur|maiden|birth|legal)_?name|surname"),
    ("a birthday", r"birth_?(date|day)?|dob|date_?of_?birth"),
    ("a government's number", r"ssn|social_?security(_?(no|number))?|tax_?id|passport(_?(no|number))?|national_?id|nin"),
    ("an address", r"street|(home|postal|mailing|billing|shipping)?_?address(_?line)?_?[0-9]?|ip_?addr(ess)?"),
    ("a salary", r"salary|wage"),
)
_BY_NAME = tuple((what, re.compile(rf"(^|_)({words})($|_)")) for what, words in _NAMES)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_INSIDE = re.compile(EMAIL)
_DATE = re.compile(r"^\s*[0-9]{1,4}[./-][0-9]{1,2}[./-][0-9]{1,4}\b")
_PHONE, _IBAN, _CARD = re.compile(PHONE), re.compile(IBAN), re.compile(CARD)
_LUHN_SHARE = 0.9
_SHARE = 0.01
_OF_ALL = 0.8


def by_name(name: str) -> str | None:
    """What a column holds that is called so, in words; None where its name says nothing."""
    plain = re.sub(r"[^a-z0-9]+", "_", _CAMEL.sub("_", name).lower()).strip("_")
    return next((what for what, words in _BY_NAME if words.search(plain)), None)


def by_values(values: Sequence[str]) -> str | None:
    """What a sample of different texts holds; None where they look harmless.

    One e-mail address or account number in a hundred is enough; a run of digits could be anything, so nearly all have to fit.
    """
    if not values:
        return None
    few = max(1, int(_SHARE * len(values)))
    if sum(_INSIDE.search(value) is not None for value in values) >= few:
        return "e-mail addresses"
    if sum(_IBAN.match(value) is not None and is_iban(value) for value in values) >= few:
        return "bank accounts (IBAN, by their check digits)"
    cards = [value for value in values if _CARD.match(value)]
    if len(cards) >= _OF_ALL * len(values) and sum(map(is_card, cards)) >= _LUHN_SHARE * len(cards):
        return "card numbers (by their check digit)"
    if sum(_is_phone(value) for value in values) >= _OF_ALL * len(values):
        return "phone numbers"
    return None


def is_iban(value: str) -> bool:
    """Whether the check digits of an IBAN are right (ISO 7064, mod 97-10)."""
    plain = value.replace(" ", "").upper()
    if not plain.isascii() or not plain.isalnum() or len(plain) > 34:
        return False
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def is_card(value: str) -> bool:
    """Whether the check digit of a card number is right (Luhn)."""
    digits = [int(sign) for sign in value if sign.isascii() and sign.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) < 2:
        return False
    doubled = [digit if place % 2 == 0 else digit * 2 - 9 * (digit > 4) for place, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def revealing(value: str) -> bool:
    """Whether one value by itself should not be shown, whatever column it is in."""
    if _INSIDE.search(value) is not None or (_IBAN.match(value) is not None and is_iban(value)):
        return True
    return _CARD.match(value) is not None and len(value.strip()) > 14 and is_card(value)


def _is_phone(value: str) -> bool:
    return _PHONE.match(value) is not None and _DATE.match(value) is None and 7 <= sum(sign.isdigit() for sign in value) <= 15
