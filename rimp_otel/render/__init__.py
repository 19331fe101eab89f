"""What a notebook shows of records: plain HTML and SVG, without scripts, styles of its own, or
anything that is loaded. Whatever was recorded is text by strangers, and comes out escaped."""
