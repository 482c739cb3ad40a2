"""The clocks of one simulated machine: how true time looks from inside it."""

from attrs import define

from sz_protocol.kernel.now import Now

PPM = 1_000_000


@define
class SimClock:
    """A monotonic clock that drifts but never steps, and a wall clock at some offset from it that does.

    True time and both clocks are microseconds. `drift_ppm` is how much faster than true time both run (negative:
    slower). `reboot` is what a power cut does: the monotonic clock starts again from zero.
    """

    utc_us: int
    mono_us: int = 0
    drift_ppm: int = 0
    trusted: bool = True
    _since_us: int = 0

    def now(self, true_us: int) -> Now:
        """What the machine reads at the true time `true_us`."""
        passed_us = true_us - self._since_us
        if self.drift_ppm:
            passed_us += passed_us * self.drift_ppm // PPM
        return Now(self.mono_us + passed_us, self.utc_us + passed_us, self.trusted)

    def true_at(self, mono_us: int) -> int:
        """The first true time at which the monotonic clock reads at least `mono_us`."""
        ahead_us = mono_us - self.mono_us if mono_us > self.mono_us else 0
        if not self.drift_ppm:
            return self._since_us + ahead_us
        true_us = self._since_us + ahead_us * PPM // (PPM + self.drift_ppm)
        while self._passed(true_us) < ahead_us:
            true_us += 1
        return true_us

    def step(self, true_us: int, step_us: int) -> None:
        """The wall clock jumps."""
        self._rebase(true_us)
        self.utc_us += step_us

    def drift(self, true_us: int, ppm: int) -> None:
        """Both clocks run at another rate from now on."""
        self._rebase(true_us)
        self.drift_ppm = ppm

    def set_utc(self, true_us: int, utc_us: int, *, trusted: bool) -> None:
        """The wall clock is set (time synchronisation, or a device that has lost its battery)."""
        self._rebase(true_us)
        self.utc_us = utc_us
        self.trusted = trusted

    def reboot(self, true_us: int) -> None:
        """The machine lost its power: its monotonic clock begins again."""
        self._rebase(true_us)
        self.mono_us = 0

    def _passed(self, true_us: int) -> int:
        true_passed_us = true_us - self._since_us
        return true_passed_us + true_passed_us * self.drift_ppm // PPM

    def _rebase(self, true_us: int) -> None:
        passed_us = self._passed(true_us)
        self.mono_us += passed_us
        self.utc_us += passed_us
        self._since_us = true_us
