"""The derivation as one interactive HTML page: `dcfnet explain`.  Needs the extra `teach`.

`page` gathers frames, weights and the library's own numbers and puts the page together, `mathml`
typesets, `command` is the command line.  What runs in the browser lies beside them as readable
sources: `js/` mirrors `ops`, `network`,
`filter` and the tracker (session.js and what it imports, in a worker) and draws (main.js and what
that imports).
"""
