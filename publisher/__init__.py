"""Writes the trees: from a scan in the intake to a file in every entitled party's tree.

Its modules, roughly in the order in which a page meets them:

    publish     the loop put together: runs until told to stop, starts over after trouble
    intake      a file in a watched folder -> a settled candidate (source: where it stands)
    spool       claimed by a rename (moving: across file systems; lease: is it written still?)
    pool        threads, each with a reader -> a worker process (messages: what they say)
    qr          the worker: file bytes -> what is on each page (cage: what it is shut in by)
    frames      file bytes -> grey pages (tiff: its chain of directories)
    cascade     a grey page -> karekod texts, cheap passes first (filters: what helps them)
    desk        karekods -> Filed | Duplicate | Quarantined: the decisions, no I/O (witness:
                how many independent readings say so)
    clerk       carries them out, the one writer; recovery: finishes what a crash left
    shelf       originals by content, hard links into the trees
    quarantine  what no rule could file, with the reason
    errands     what operators ask for (absence, ruling); attendant: carries it out
    verify      does it all agree? (snapshot, merging, finding); repair: mends what is proven
    rebuild     a tree from nothing, put in place at once
    accounts    expected, filed, absent, missing
    catalog     what came in, what became of it (tables: its schema;
                statements: what each page asks; rows: its rows as values)
    census      how many came, counted from outside
    feed        what parties mirror by, beside the filing (keys/feed_segment, sums: the formats;
    chain: how it is kept; readme)
    filings     what the feed asks of the catalog; press: its files, in every tree by a rename
    page        the nouns
"""
