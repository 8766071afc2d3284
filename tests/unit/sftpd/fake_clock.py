"""A monotonic clock that stands still until a test moves it."""


class FakeClock:
    now = 100.0

    def __call__(self) -> float:
        return self.now
