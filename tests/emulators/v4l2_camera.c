/* A UVC camera at the level of the kernel's calls: preloaded, it answers V4L2's ioctls on one path.
 *
 * The sensor begins to expose picture k at start + k / fps, whether anybody looks or not; its first
 * packet arrives after the exposure and processing_ms, and is what the kernel stamps, as uvcvideo
 * does. It fills the buffer that was queued first: one that nobody fetches keeps an old picture.
 * While exposure is automatic, it is what the light asks for. Orders and readings are in a shared file, struct board; pictures come from files
 * <frames>.MJPG and <frames>.YUYV: a count, then for each its size and its bytes.
 *
 * Environment: V4L2_PATH, V4L2_BOARD, V4L2_FRAMES.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { BUFFERS = 4, CONTROLS = 8, SILENT_S = 2, EXPOSURE_UNIT_NS = 100000 };

struct control { /* of the camera; 0 as an id: there is no such control */
    int32_t id, value, low, high, is_stuck;
};

struct board { /* shared with who tests */
    int32_t is_unplugged, is_silent, is_picture_frozen, are_stamps_frozen, stamps_are_utc;
    int32_t width, height, fps, latency_ms, processing_ms, light, opened;
    int64_t start_ns;
    struct control controls[CONTROLS];
};

static struct board *board;
static int device = -1;
static int64_t filled[BUFFERS];   /* picture in each buffer */
static int queue[BUFFERS], queued; /* buffers, the one to be filled first in front */
static int64_t last_picture, frozen_picture = -1, frozen_stamp_ns = -1; /* opening thaws nothing */
static uint32_t pixel_format = V4L2_PIX_FMT_YUYV, buffer_bytes;
static int is_streaming;
static uint8_t *memory, *frames;

static int64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int64_t period_ns(void) { return 1000000000LL / board->fps; }

static struct control *control_of(uint32_t id) {
    for (int i = 0; i < CONTROLS; i++)
        if (board->controls[i].id == (int32_t)id && id != 0) return &board->controls[i];
    errno = EINVAL;
    return NULL;
}

static int64_t exposed_ns(int64_t picture) { return board->start_ns + picture * period_ns(); }

static int64_t until_first_packet_ns(void) {
    struct control *exposure = control_of(V4L2_CID_EXPOSURE_ABSOLUTE);
    int64_t exposure_ns = exposure ? (int64_t)exposure->value * EXPOSURE_UNIT_NS : 0;
    return exposure_ns + board->processing_ms * 1000000LL;
}

static void expose_by_light(void) {
    struct control *automatic = control_of(V4L2_CID_EXPOSURE_AUTO);
    struct control *exposure = control_of(V4L2_CID_EXPOSURE_ABSOLUTE);
    if (automatic && exposure && automatic->value != V4L2_EXPOSURE_MANUAL) exposure->value = board->light;
}

static void *map_file(const char *path) {
    int file = open(path, O_RDWR);
    off_t size = lseek(file, 0, SEEK_END);
    void *found = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return found;
}

static void load_frames(void) {
    char path[4096];
    const char *name = pixel_format == V4L2_PIX_FMT_MJPEG ? "MJPG" : "YUYV";
    snprintf(path, sizeof path, "%s.%s", getenv("V4L2_FRAMES"), name);
    frames = map_file(path);
}

static uint32_t copy_picture(int64_t picture, uint8_t *into) {
    uint32_t count, size;
    memcpy(&count, frames, 4);
    uint8_t *at = frames + 4;
    for (int64_t left = picture % count;; left--) {
        memcpy(&size, at, 4);
        if (left == 0) break;
        at += 4 + size;
    }
    memcpy(into, at + 4, size);
    return size;
}

static int open_camera(void) {
    if (board->is_unplugged) { errno = ENOENT; return -1; }
    if (board->start_ns == 0) board->start_ns = now_ns(CLOCK_MONOTONIC);
    board->opened++;
    queued = is_streaming = 0;
    last_picture = -1;
    buffer_bytes = 4096 * 1024;
    device = memfd_create("camera", 0);
    if (ftruncate(device, (off_t)buffer_bytes * BUFFERS)) return -1;
    memory = mmap(NULL, (size_t)buffer_bytes * BUFFERS, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
    return device;
}

static int is_camera(const char *path) {
    const char *ours = getenv("V4L2_PATH");
    if (!ours || strcmp(path, ours)) return 0;
    if (!board) board = map_file(getenv("V4L2_BOARD"));
    return 1;
}

static void enqueue(int index) {
    int64_t begun_ns = now_ns(CLOCK_MONOTONIC) - until_first_packet_ns() - board->start_ns;
    int64_t next = begun_ns < 0 ? 0 : begun_ns / period_ns() + 1;
    last_picture = next > last_picture ? next : last_picture + 1;
    filled[index] = last_picture;
    queue[queued++] = index;
}

static int dequeue(struct v4l2_buffer *buffer) {
    if (queued == 0) { errno = EINVAL; return -1; }
    int index = queue[0];
    int64_t picture = filled[index];
    int64_t first_packet_ns = exposed_ns(picture) + until_first_packet_ns();
    int64_t due_ns = exposed_ns(picture) + board->latency_ms * 1000000LL;
    if (due_ns < first_packet_ns) due_ns = first_packet_ns;
    int64_t end_ns = now_ns(CLOCK_MONOTONIC) + SILENT_S * 1000000000LL;
    while (board->is_silent || now_ns(CLOCK_MONOTONIC) < due_ns) {
        if (board->is_unplugged) break;
        if (board->is_silent && now_ns(CLOCK_MONOTONIC) > end_ns) { errno = EIO; return -1; }
        usleep(500);
    }
    if (board->is_unplugged) { errno = ENODEV; return -1; }
    memmove(queue, queue + 1, --queued * sizeof queue[0]);
    if (!board->is_picture_frozen || frozen_picture < 0) frozen_picture = picture;
    expose_by_light();
    int64_t stamp_ns = first_packet_ns;
    if (board->stamps_are_utc) stamp_ns += now_ns(CLOCK_REALTIME) - now_ns(CLOCK_MONOTONIC);
    if (!board->are_stamps_frozen || frozen_stamp_ns < 0) frozen_stamp_ns = stamp_ns;
    memset(buffer, 0, sizeof *buffer);
    buffer->type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    buffer->memory = V4L2_MEMORY_MMAP;
    buffer->index = index;
    buffer->length = buffer_bytes;
    buffer->bytesused = copy_picture(frozen_picture, memory + (size_t)index * buffer_bytes);
    buffer->sequence = picture;
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | V4L2_BUF_FLAG_TSTAMP_SRC_SOE;
    buffer->timestamp.tv_sec = frozen_stamp_ns / 1000000000LL;
    buffer->timestamp.tv_usec = frozen_stamp_ns % 1000000000LL / 1000;
    return 0;
}

static int set_format(struct v4l2_format *format, int is_set) {
    struct v4l2_pix_format *pixels = &format->fmt.pix;
    int is_known = pixels->pixelformat == V4L2_PIX_FMT_MJPEG || pixels->pixelformat == V4L2_PIX_FMT_YUYV;
    if (is_set && is_known) pixel_format = pixels->pixelformat;
    memset(pixels, 0, sizeof *pixels);
    pixels->width = board->width; /* it has this one size, whatever is asked for */
    pixels->height = board->height;
    pixels->pixelformat = pixel_format;
    pixels->field = V4L2_FIELD_NONE;
    pixels->bytesperline = pixel_format == V4L2_PIX_FMT_YUYV ? 2 * board->width : 0;
    pixels->sizeimage = buffer_bytes;
    return 0;
}

static int control(unsigned long request, void *argument) {
    struct v4l2_control *wanted = argument;
    struct v4l2_queryctrl *query = argument;
    struct control *found = control_of(wanted->id); /* the id stands first in both */
    if (!found) return -1;
    if (request == VIDIOC_QUERYCTRL) {
        memset(query, 0, sizeof *query);
        query->id = found->id;
        query->type = V4L2_CTRL_TYPE_INTEGER;
        query->minimum = found->low;
        query->maximum = found->high;
        query->step = 1;
    } else if (request == VIDIOC_G_CTRL) {
        wanted->value = found->value;
    } else if (!found->is_stuck) {
        int32_t value = wanted->value < found->low ? found->low : wanted->value;
        found->value = value > found->high ? found->high : value;
    }
    return 0;
}

static int parameters(struct v4l2_streamparm *wanted) {
    wanted->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
    wanted->parm.capture.timeperframe.numerator = 1;
    wanted->parm.capture.timeperframe.denominator = board->fps;
    return 0;
}

static int answer(unsigned long request, void *argument) {
    struct v4l2_capability *capability = argument;
    struct v4l2_buffer *buffer = argument;
    if (board->is_unplugged) { errno = ENODEV; return -1; }
    switch (request) {
    case VIDIOC_QUERYCAP:
        memset(capability, 0, sizeof *capability);
        strcpy((char *)capability->driver, "emulated");
        capability->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING | V4L2_CAP_DEVICE_CAPS;
        capability->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    case VIDIOC_G_FMT: return set_format(argument, 0);
    case VIDIOC_TRY_FMT: return set_format(argument, 0);
    case VIDIOC_S_FMT: return set_format(argument, 1);
    case VIDIOC_G_PARM: return parameters(argument);
    case VIDIOC_S_PARM: return parameters(argument);
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *wanted = argument;
        if (wanted->count > BUFFERS) wanted->count = BUFFERS;
        queued = 0;
        return 0;
    }
    case VIDIOC_QUERYBUF:
        buffer->length = buffer_bytes;
        buffer->m.offset = buffer->index * buffer_bytes;
        return 0;
    case VIDIOC_QBUF: enqueue(buffer->index); return 0;
    case VIDIOC_DQBUF: return dequeue(buffer);
    case VIDIOC_STREAMON: load_frames(); is_streaming = 1; return 0;
    case VIDIOC_STREAMOFF: queued = is_streaming = 0; return 0;
    case VIDIOC_QUERYCTRL:
    case VIDIOC_G_CTRL:
    case VIDIOC_S_CTRL: return control(request, argument);
    default: errno = ENOTTY; return -1;
    }
}

int ioctl(int file, unsigned long request, ...) {
    static int (*real)(int, unsigned long, ...);
    if (!real) real = dlsym(RTLD_NEXT, "ioctl");
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return file == device && device >= 0 ? answer((uint32_t)request, argument) : real(file, request, argument);
}

int close(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "close");
    if (file == device && device >= 0) device = -1;
    return real(file);
}

static int open_any(const char *name, const char *path, int flags, mode_t mode) {
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, name);
    return is_camera(path) ? open_camera() : real(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open_any("open", path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open_any("open64", path, flags, mode);
}
