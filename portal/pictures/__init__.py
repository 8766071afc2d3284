"""Pictures that a browser can show, made of the signed sheets in a sandboxed process."""
