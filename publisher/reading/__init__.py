"""The bytes of a page become karekod texts, in a sandboxed worker process."""
