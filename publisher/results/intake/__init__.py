"""A batch in results/ becomes versions of results, each row recorded exactly once."""
