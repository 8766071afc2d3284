"""The requests that operators send to the publisher, and how it handles them."""
