"""Files scanned pages: from a scan in the intake to a file in the tree of every entitled party.

One room per step of the job, roughly in the order in which a page passes through them:

    publish     the main loop: runs until told to stop, and starts again after an error of the disk
    intake      watches the intake folders, waits until a file is complete, claims it
    reading     reads the karekods of a claimed file in a sandboxed worker process
    filing      decides, stores, links and records; recovery after a crash
    store       the originals, the hard links in the trees, and the quarantine
    catalog     the database: what arrived, what became of it, what is expected and missing
    feed        the change feed and the checksums that the parties mirror by
    fsck        checks that catalog, store and trees agree; repairs; rebuilds a tree
    requests    carries out what operators ask of the publisher

    page        the nouns: an arrival, what was read in it, why it may go to quarantine
    outcome     filed, a duplicate, or quarantined
    source      a file below an intake folder, opened without following links
    database    how the databases of the catalog and of the results are opened
    migrations  their tables in PostgreSQL, made and changed step by step
"""
