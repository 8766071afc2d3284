"""The representatives' pages, `/sipport`: request forms, from any address and at any time."""
