"""A recording for eyes: the page in the browser, and query APIs that existing tools speak.

``server`` composes all routes, for ``rimp ui`` and ``rimp serve``; ``api`` are those that the page asks,
``page_files`` the page itself, ``live`` tells of changes. ``questions`` limits what answers cost. What is
answered lies in folders. Imports everything below; needs the extra ``server``. No telemetry logic of its own.
"""
