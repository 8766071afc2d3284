"""The monitor's answers to its children's questions: logins, passwords and witnesses."""
