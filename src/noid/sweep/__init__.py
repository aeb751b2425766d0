# SPDX-License-Identifier: MIT
"""Many runs of the simulator, on all cores or on a cluster, kept in a file and gone on with."""
