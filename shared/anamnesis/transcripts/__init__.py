"""Claude Code transcripts: from bytes to exchanges to episodes.

`lines` cuts bytes into records, `records` reads one record tolerantly, `exchanges` cuts a stream of
records into exchanges, `episodes` makes an episode of each, with `tools`, `summary` and
`significance` beside it. All of that is pure. `files` finds and opens transcripts, `marks` says how
far each was read, `sync` reads what is new and pushes it to a `destination`.
"""
