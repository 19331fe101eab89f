"""The viewer's page in a real Chromium, over a real ``rimp ui``."""
