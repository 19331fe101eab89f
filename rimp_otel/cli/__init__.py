"""The ``rimp`` command.

`main` has the parser and the list of subcommands; each subcommand is a function
``add_<name>_arguments(parser)`` in the module named like it, which sets the function that runs it. What
subcommands share: `options` (arguments), `output` (reading, messages, JSON), `record_filter`, `timespec`.

This is the top layer: it may import all others, and only ``__main__`` imports it. Nothing here is public
but the command itself. Modules import no SDK when they are imported, so that ``rimp --help`` starts fast; a
subcommand imports what it needs when it runs.
"""
