"""Makes up an election: its registry, ballot and results, the printed sheets and their scans."""
