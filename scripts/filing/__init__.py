"""Commands about filed sheets: registry, status, absences, quarantine, verification, export."""
