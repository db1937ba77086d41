"""What the suites check is told in full when it fails, also from inside the shipped modules."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("ffd.testing.conformance.runtime")
