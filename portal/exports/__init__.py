"""What a user saves: CSV, Excel and ZIP files of exactly what is shown."""
