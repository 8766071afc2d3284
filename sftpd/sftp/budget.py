"""What the SFTP sessions of one connection may keep in memory, all together.

A script may open hundreds of files at once, so the limit on handles is high. What grows with a
handle is therefore limited for the whole connection: about 8 MB of ranges.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Budget:
    """What is left; a session takes from it and gives back."""

    handles: int = 2000  # open files and folders
    ranges: int = 65_536  # of files that are being sent (sftpd/sftp/byte_ranges), about 120 bytes
