"""The database of a site: what arrived, what became of it, and which expected sheets are missing.

Only the publisher writes to it. Its modules:

    catalog        the publisher's writes and queries, one transaction at a time
    tables         the schema;  rows: its rows as values;  statements: the queries of every page
    review         what operators decided about files in quarantine
    absences       sheets that will never arrive, each with a reason
    feed_queries   what the feed, the sums and the exports read, over a connection of their own
    counts         totals, read by other processes
    coverage       expected, filed, absent and missing sheets, read by other processes

Names on disk (tables, columns) are fixed: older sites must open.
"""
