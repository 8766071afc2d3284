"""`ssps audit report`: what each party was entitled to and downloaded, as HTML pages and CSV."""
