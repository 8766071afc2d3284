"""Checks that catalog, store, trees and ledger agree, repairs problems, and rebuilds trees."""
