"""Write Prometheus rules as a rule file."""

from __future__ import annotations

import json
from typing import Any, cast

Rule = dict[str, Any]


def _quoted(text: object) -> str:
    """Return a text in quotes, which JSON and YAML both accept."""
    plain = str(text).encode(errors="replace").decode()
    quoted = json.dumps(plain, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)


def as_yaml(groups: list[dict[str, Any]]) -> str:
    """Return a rule file; its texts are quoted as in JSON, which is valid YAML."""
    lines = ["groups:"]
    for group in groups:
        lines += [f"- name: {_quoted(group['name'])}", "  rules:"]
        for rule in group["rules"]:
            mark = "  - "
            for key, value in rule.items():
                if isinstance(value, dict):
                    lines.append(f"{mark}{key}:")
                    table = cast("dict[str, str]", value)
                    lines += [f"      {name}: {_quoted(said)}" for name, said in table.items()]
                elif key == "expr":
                    lines.append(f"{mark}expr: |-")
                    lines += [f"      {line}" for line in str(value).splitlines()]
                else:
                    lines.append(f"{mark}{key}: {value}")
                mark = "    "
    return "\n".join(lines) + "\n"
