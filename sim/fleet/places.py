"""The sites of a simulated fleet, in three regions. The laboratories are invented; the cities give them locations."""

from __future__ import annotations

from typing import Final, NamedTuple


class Place(NamedTuple):
    """A site: its columns in the table `sites`."""

    site: str
    name: str
    country: str
    region: str
    zone: str
    latitude: float
    longitude: float


PLACES: Final = (
    Place("berlin", "Berlin Laboratory", "DE", "europe", "Europe/Berlin", 52.52, 13.40),
    Place("boston", "Boston Laboratory", "US", "america", "America/New_York", 42.36, -71.06),
    Place("osaka", "Osaka Laboratory", "JP", "asia", "Asia/Tokyo", 34.69, 135.50),
    Place("lyon", "Lyon Laboratory", "FR", "europe", "Europe/Paris", 45.76, 4.84),
    Place("denver", "Denver Laboratory", "US", "america", "America/Denver", 39.74, -104.99),
    Place("singapore", "Singapore Laboratory", "SG", "asia", "Asia/Singapore", 1.35, 103.82),
    Place("hamburg", "Hamburg Laboratory", "DE", "europe", "Europe/Berlin", 53.55, 9.99),
    Place("toronto", "Toronto Laboratory", "CA", "america", "America/Toronto", 43.65, -79.38),
    Place("seoul", "Seoul Laboratory", "KR", "asia", "Asia/Seoul", 37.57, 126.98),
    Place("porto", "Porto Laboratory", "PT", "europe", "Europe/Lisbon", 41.15, -8.61),
    Place("lima", "Lima Laboratory", "PE", "america", "America/Lima", -12.05, -77.04),
    Place("mumbai", "Mumbai Laboratory", "IN", "asia", "Asia/Kolkata", 19.08, 72.88),
    Place("krakow", "Kraków Laboratory", "PL", "europe", "Europe/Warsaw", 50.06, 19.94),
    Place("santiago", "Santiago Laboratory", "CL", "america", "America/Santiago", -33.45, -70.67),
    Place("nagoya", "Nagoya Laboratory", "JP", "asia", "Asia/Tokyo", 35.18, 136.91),
    Place("munich", "Munich Laboratory", "DE", "europe", "Europe/Berlin", 48.14, 11.58),
    Place("atlanta", "Atlanta Laboratory", "US", "america", "America/New_York", 33.75, -84.39),
    Place("sydney", "Sydney Laboratory", "AU", "asia", "Australia/Sydney", -33.87, 151.21),
    Place("ghent", "Ghent Laboratory", "BE", "europe", "Europe/Brussels", 51.05, 3.72),
    Place("curitiba", "Curitiba Laboratory", "BR", "america", "America/Sao_Paulo", -25.43, -49.27),
    Place("busan", "Busan Laboratory", "KR", "asia", "Asia/Seoul", 35.18, 129.08),
    Place("graz", "Graz Laboratory", "AT", "europe", "Europe/Vienna", 47.07, 15.44),
    Place("phoenix", "Phoenix Laboratory", "US", "america", "America/Phoenix", 33.45, -112.07),
    Place("hanoi", "Hanoi Laboratory", "VN", "asia", "Asia/Ho_Chi_Minh", 21.03, 105.85),
)
