"""A store that lies elsewhere, read by byte range: web server, ssh, folder."""
