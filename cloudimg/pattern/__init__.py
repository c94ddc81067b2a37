"""The pattern language: URLs with named fields and wildcards.

Pure text: nothing here opens, lists or knows a store, reads the clock, the locale or the
environment, or imports anything of cloudimg but `cloudimg.errors`. The same text always gives the
same result, on the client and on every worker.

text -> `tokens` (literal, wildcard, field) -> `assembly` (one anchored regular expression) ->
`language` (the Pattern that users of this package hold). `fields`, `times`, `elapsed`,
`directives` and `regex` say what a field takes; `steps` says what URLs begin with; `advice` says
how to write a pattern that matches more. `proposal` goes the other way, from names to patterns in
natural `order`: `pieces` cuts names, `dates` finds times in them, `roles` says which axes they are,
`columns` writes the pattern.
"""

from cloudimg.pattern.advice import advise
from cloudimg.pattern.fields import Field, Label
from cloudimg.pattern.language import Pattern, compile_pattern, escape
from cloudimg.pattern.order import natural_key
from cloudimg.pattern.proposal import propose
from cloudimg.pattern.steps import Step, steps_of
from cloudimg.pattern.tokens import escape_brackets

__all__ = [
    "Field",
    "Label",
    "Pattern",
    "Step",
    "advise",
    "compile_pattern",
    "escape",
    "escape_brackets",
    "natural_key",
    "propose",
    "steps_of",
]
