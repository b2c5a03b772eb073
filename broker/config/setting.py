"""How a setting is declared: where it stands, what it means, its default, and the rule that its value must follow.

``Settings`` annotates each field with a ``Setting``; its type is the annotated type.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

# Both return what is wrong with a value and how to mend it, or "".
Check = Callable[[Any], str]
JointCheck = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of one setting.

    ``default`` is a value, or a function of the data folder; then ``default_text`` says what it comes to. ``check``
    is given the value, ``check_with`` the values of all settings by field name.
    """

    section: str
    description: str
    _: KW_ONLY
    default: Any
    default_text: str = ""
    check: Check | None = None
    check_with: JointCheck | None = None

    def default_in(self, data_dir: Path) -> Any:  # noqa: ANN401 - of the setting's own type
        """Return the default of an installation with this data folder."""
        return self.default(data_dir) if callable(self.default) else self.default

    def problem(self, value: object, values: Mapping[str, Any]) -> str:
        """Return what is wrong with a value, or ""."""
        return (self.check(value) if self.check else "") or (self.check_with(values) if self.check_with else "")


class DeclaredSetting(NamedTuple):
    """One field of a settings class: its path in the file, its type and its declaration."""

    field: str
    path: tuple[str, str]
    type: Any
    setting: Setting


def declared_settings(settings_class: type) -> Iterator[DeclaredSetting]:
    """Yield the fields that are annotated with a Setting, in their order."""
    hints = get_type_hints(settings_class, include_extras=True)
    for field in fields(settings_class):
        for setting in getattr(hints[field.name], "__metadata__", ()):
            key = field.name.removeprefix(setting.section + "_")
            yield DeclaredSetting(field.name, (setting.section, key), hints[field.name].__origin__, setting)
