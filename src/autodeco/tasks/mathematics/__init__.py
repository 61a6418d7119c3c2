"""Whether two mathematical answers are equal, by math-verify in a process of its own."""

from autodeco.tasks.mathematics.verify import MathVerdict, check_math_verify, compare

__all__ = ["MathVerdict", "check_math_verify", "compare"]
