"""A real RTSP camera on loopback, as H.264 and behind a password if one is given.

    /usr/bin/python3 rtsp_server.py PORT [--login USER PASSWORD] [--film FILE.avi]

It shows a test picture that moves, or a film of JPEG pictures at its own speed, from its beginning
for the first who comes. Runs under the system's Python, which has GStreamer's RTSP server (Debian:
python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
gstreamer1.0-plugins-ugly). Prints a line when it answers, and when it begins to show: "playing" and
the seconds since 1970.
"""

import argparse
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PICTURE = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=448,height=252,framerate=15/1"
FILM = 'filesrc location="{}" ! avidemux ! jpegdec ! videoconvert ! video/x-raw,format=I420'
ENCODED = (
    "( {} ! x264enc tune=zerolatency speed-preset=veryfast key-int-max=15 "
    "! rtph264pay name=pay0 pt=96 config-interval=1 )"
)

parser = argparse.ArgumentParser()
parser.add_argument("port")
parser.add_argument("--login", nargs=2)
parser.add_argument("--film")
options = parser.parse_args()
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(options.port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(ENCODED.format(FILM.format(options.film) if options.film else PICTURE))
factory.set_shared(True)


def tell(_media: GstRtspServer.RTSPMedia, state: int) -> None:
    """Say when it begins to show."""
    if state == int(Gst.State.PLAYING):
        print(f"playing {time.time():.3f}", flush=True)


factory.connect("media-configure", lambda _, media: media.connect("new-state", tell))
if options.login:
    role = GstRtspServer.RTSPToken()
    role.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "user")
    basic = GstRtspServer.RTSPAuth.make_basic(*options.login)
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(basic, role)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory("/stream1", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
