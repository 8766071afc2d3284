"""A page that was read is decided, stored, linked into the trees and recorded."""
