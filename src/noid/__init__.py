# SPDX-License-Identifier: MIT
"""noid: IPv6 multihoming without IP identifiers.

An implementation of the M6 shim of draft-nordmark-multi6-noid-02 for Linux hosts. The rooms of the
package, and which may know which, are drawn in docs/architecture.md.
"""

__version__ = "0.1.0"
