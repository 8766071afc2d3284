"""Who may come in, and the record of what each user saw: every route passes one gate."""
