"""Records as text, HTML and SVG: for terminals and notebooks.

Internal. Imports the models alone. Whatever was recorded is text by strangers, and comes out escaped;
HTML and SVG have no scripts, no styles of their own, and load nothing.
"""
