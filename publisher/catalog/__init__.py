"""The database of a site: what arrived, what became of it, and which expected sheets are missing.

Only the publisher writes to it. Its modules:

    catalog        the publisher's writes and queries, one transaction at a time
    tables         the schema;  rows: its rows as values;  statements: the queries of every page
    decisions/     what operators decided: pages in quarantine, sheets that will never arrive
    queries/       what the feed and other processes read: filed pages, totals, missing sheets

Names on disk (tables, columns) are fixed: older sites must open.
"""
