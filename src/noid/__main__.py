# SPDX-License-Identifier: MIT
"""``python -m noid`` is the ``noid`` command."""

import sys

from noid.cli.main import main

sys.exit(main())
