"""Pages: what a run or a comparison looks like in HTML, Markdown, JSON and the terminal. Nothing is trained here."""
