"""One machine in a runtime of your own: the wall clock on probation, driven by a list of readings."""

from sz_protocol.kernel.now import Now
from sz_protocol.machines.timekeeping import Timekeeping
from sz_protocol.settings import Settings

DAY_US = 86_400_000_000

time = Timekeeping(Settings())
for second, step_us in [(0, 0), (10, 0), (20, DAY_US), (50, DAY_US), (90, DAY_US)]:
    reading = Now(mono_us=second * 1_000_000, utc_us=DAY_US + second * 1_000_000 + step_us)
    believed = time.read(reading)
    print(second, (believed.utc_us - DAY_US) // 1_000_000, [type(notice).__name__ for notice in time.notices])
    time.notices.clear()
