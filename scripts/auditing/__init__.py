"""What an auditor does with copies of the ledgers and the public key, and nothing else.

where      which ledgers and keys a command was given
verifying  a ledger against what was signed for it; verdicts are what it finds, leaves what it
           reads, naming tells the first record that is not as it was
receipts   a proof of one record that is checked offline
feeds      a change feed held against itself: what is missing, does not follow, came late
index      a database over ledgers, thrown away and rebuilt at will
query, gaps, timelines, exports, reports    questions to that database
"""
