"""Checks that catalog, store, trees and ledger agree; repairs and rebuilds."""
