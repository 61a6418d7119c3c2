"""``autodeco doctor``: what this machine has, what is missing, and the command that installs it."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.text import Text

_MARKS = {"ok": ("ok", "green"), "absent": ("--", "yellow"), "broken": ("!!", "red")}


def command() -> None:
    """Look at this machine: versions, devices, compiled kernels, what is missing and how to install it.

    Status 0 where the core works (a model with heads decodes), also if extras are missing; 2 where it does not.

    \b
    Examples:
      autodeco doctor
      autodeco doctor > doctor.txt   # to attach to a report
    """
    from autodeco.doctor import Finding, examine

    console = Console()
    findings: list[Finding] = []
    for finding in examine():
        if not findings or findings[-1].section != finding.section:
            console.print(Text(f"\n{finding.section}", style="bold"))
        mark, colour = _MARKS[finding.state]
        console.print(Text(f"  {mark}  ", style=colour) + Text(f"{finding.name}: {finding.found}"), soft_wrap=True)
        findings.append(finding)
    broken = [finding for finding in findings if finding.state == "broken"]
    console.print(Text("\nThe core does not work." if broken else "\nThe core works.", style="bold"))
    remedies: dict[str, list[str]] = {}
    for finding in findings:
        if finding.remedy is not None:
            remedies.setdefault(finding.remedy, []).append(finding.name)
    if remedies:
        console.print("What is missing comes with (! is needed):")
    for remedy, names in remedies.items():
        needed = any(finding.remedy == remedy for finding in broken)
        console.print(Text(f"{'!' if needed else ' '} {remedy}") + Text(f"   # {', '.join(names)}"), soft_wrap=True)
    raise typer.Exit(2 if broken else 0)
