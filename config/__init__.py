"""The domain types (election, party, sheet, ballot, …), and the files that an operator writes."""
