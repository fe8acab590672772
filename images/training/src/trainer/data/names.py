"""What names of columns suggest: an outcome, a weight, a protected attribute, or what is known only after the loan."""

import re

_OUTCOME = re.compile(
    r"target|outcome|class|status|loan_?status|default(ed|_?flag|_?payment.*|_?next_?month)?|bad(_?flag|_?loan)?|good_?bad|"
    r"charged_?off|(loan_?)?(paid_?back|repaid)|risk|label|y|seriousdlqin.*|delinquent|npl|creditability|approved",
    re.IGNORECASE,
)
_PROTECTED_WORDS = frozenset({"sex", "age", "ages", "dob", "race", "zip", "zipcode", "child", "children", "language"})
_PROTECTED = re.compile(
    r"gender|birth|marital|marri|ethnic|religio|nationality|citizen|foreign|disab|pregnan|dependent|dependant|postcode"
)
_LATER = re.compile(
    r"recover|collection_|total_?(pymnt|payment|rec)|last_(pymnt|payment|credit_pull|fico)|next_(pymnt|payment)|out_prncp|"
    r"outstanding_princip|settlement|hardship|charge_?off|charged_?off|write_?off|written_?off|debt_settle|paid_?(amount|total)|"
    r"amount_?paid|(loan|repayment)_?(end|close|closed)|closed?_date|days_(past_due|late|overdue)|dpd|late_fee|collections?$|"
    r"foreclos|bankruptcy_after",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(
    r"(.*_)?(id|key|uuid|guid|no|number|ssn|iban|email|phone|name)|(member|loan|customer|applicant)_?id", re.IGNORECASE
)

_WEIGHT = re.compile(r"((sample|survey|case|row|observation|obs|design)_?)?(weights?|wgt)", re.IGNORECASE)

_DEFAULT = re.compile(
    r"bad|default(ed)?|charged.?off|yes|true|1|write.?off|written.?off|fail(ed)?|npl|unpaid|not.?paid|"
    r"does not.*charged off",
    re.IGNORECASE,
)
_REPAID = re.compile(
    r"good|(fully.?)?paid(.?(back|off))?|repaid|no|false|0|ok|performing|settled|closed", re.IGNORECASE
)
_REPAID_IS_1 = re.compile(r"paid|repaid|good|approved|performing|creditability", re.IGNORECASE)


def suggests_outcome(name: str) -> bool:
    """Return whether a column's name is one that targets usually have."""
    return bool(_OUTCOME.fullmatch(name.strip().replace(" ", "_").replace(".", "_")))


def suggests_protected(name: str) -> bool:
    """Return whether a column may hold an attribute that the law protects, or a proxy of one."""
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    return any(word in _PROTECTED_WORDS or _PROTECTED.match(word) for word in words)


def suggests_later(name: str) -> bool:
    """Return whether a column may be known only after the loan was granted, and so reveal its outcome."""
    return bool(_LATER.search(name.replace(" ", "_")))


def suggests_identifier(name: str) -> bool:
    """Return whether a column's name is that of an identifier."""
    return bool(_IDENTIFIER.fullmatch(name.strip().replace(" ", "_")))


def suggests_weight(name: str) -> bool:
    """Return whether a column's name is one that weights of rows usually have."""
    return bool(_WEIGHT.fullmatch(name.strip().replace(" ", "_")))


def outcome_of(label: str, column: str) -> str | None:
    """Return `default` or `repaid` for a label whose meaning is customary, or None."""
    if label.strip() in {"0", "1"} and _REPAID_IS_1.search(column):
        return "repaid" if label.strip() == "1" else "default"
    if _DEFAULT.fullmatch(label.strip()):
        return "default"
    return "repaid" if _REPAID.fullmatch(label.strip()) else None
