"""`ssps party requests` and `ssps party invite`: request forms that come through the browser."""
