"""The process that forks sessions (sftpd/sessions), with the log of a daemon.

python -m scripts.daemons.sessions SOCKET MONITOR
"""

from sftpd import optional_modules

if __name__ == "__main__":
    optional_modules.leave_out()

import sys

from scripts.shared.json_log import configure_logging
from sftpd import sessions

if __name__ == "__main__":
    configure_logging("serve")
    sys.exit(sessions.main(int(sys.argv[1]), int(sys.argv[2])))
