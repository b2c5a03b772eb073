"""Second factors: verification and enrolment."""
