/* Works of the window: the queue, progress, previews, and what happens when one ends. */
#include <glib/gi18n-lib.h>

#include "preview.h"
#include "trace.h"
#include "unfinished.h"
#include "window_internal.h"

guint grv_jobs_running(const grv_window *w)
{
    guint n = 0;
    for (guint i = 0; i < w->works->len; i++)
        n += grv_work_state(g_ptr_array_index(w->works, i)) < GRV_DONE;
    return n;
}

/* The one that is painted, or waits longest. */
static grv_work *front(const grv_window *w)
{
    for (guint i = 0; i < w->works->len; i++) {
        if (grv_work_state(g_ptr_array_index(w->works, i)) < GRV_DONE)
            return g_ptr_array_index(w->works, i);
    }
    return NULL;
}

static void show_progress(grv_window *w, double fraction, const char *text)
{
    guint waiting = grv_jobs_running(w);
    char *more = waiting > 1 ? g_strdup_printf(_("%s · %u more waiting"), text, waiting - 1)
                             : g_strdup(text);
    gtk_progress_bar_set_fraction(GTK_PROGRESS_BAR(w->progress), CLAMP(fraction, 0, 1));
    gtk_progress_bar_set_text(GTK_PROGRESS_BAR(w->progress), more);
    g_free(more);
}

static void show_step(grv_window *w, grv_work *work, const rv_event *e)
{
    double done = e->steps > 0 ? (double)e->step / e->steps : 0;
    double all = ((double)e->index + done) / (double)grv_work_wanted(work);
    char *text = grv_work_wanted(work) > 1
                     ? g_strdup_printf(_("Picture %d of %d, step %d of %d"), (int)e->index + 1,
                                       (int)grv_work_wanted(work), e->step, e->steps)
                     : g_strdup_printf(_("Step %d of %d"), e->step, e->steps);
    show_progress(w, all, text);
    grv_strip_progress(w, work, e->index, done);
    g_free(text);
}

void grv_jobs_clear(grv_window *w)
{
    grv_ghost_free(w->ghost);
    w->ghost = NULL;
}

static void show_on_canvas(grv_window *w, grv_work *work, rv_image *preview)
{
    if (!gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(w->on_canvas)))
        return;
    if (!w->ghost)
        w->ghost = grv_ghost_new(grv_work_scene(work));
    grv_ghost_show(w->ghost, preview);
}

/* The preview is of the working size's proportions; what is cut off later shows too. */
static void show_preview(grv_window *w, grv_work *work, rv_image *preview)
{
    GdkPixbuf *p = grv_pixbuf_from_image(preview);
    if (!p)
        return;
    grv_trace("preview");
    if (w->shown != work)
        grv_jobs_clear(w);
    w->shown = work;
    show_on_canvas(w, work, preview);
    grv_preview_set(w->preview, p, NULL);
    gtk_label_set_text(GTK_LABEL(w->caption), grv_request_prompt(grv_work_request(work)));
    g_object_unref(p);
}

static void show_idle(grv_window *w)
{
    grv_work *next = front(w);
    if (next)
        show_progress(
            w, 0, grv_work_state(next) == GRV_STARTING ? _("Starting the engine") : _("Waiting"));
    else
        show_progress(w, 0, _("Ready"));
    grv_window_update(w);
}

static void on_done(grv_window *w, grv_work *work)
{
    char *warnings = grv_work_warnings(work);
    grv_window_say(w, GTK_MESSAGE_WARNING, warnings);
    g_free(warnings);
    if (gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(w->auto_insert)))
        grv_strip_insert_work(w, work);
    grv_strip_select(w, 0);
    grv_trace("done");
}

static void on_end(grv_window *w, grv_work *work)
{
    const GError *why = grv_work_error(work);
    grv_unfinished_set(grv_jobs_running(w));
    grv_strip_forget(w, work);
    grv_jobs_clear(w);
    w->shown = NULL; /* no rough picture stays */
    if (grv_work_state(work) == GRV_DONE) {
        on_done(w, work);
    } else {
        bool is_stopped = grv_work_state(work) == GRV_STOPPED;
        grv_window_say(w, is_stopped ? GTK_MESSAGE_INFO : GTK_MESSAGE_ERROR,
                       is_stopped ? _("Stopped. The image is as it was.")
                       : why      ? why->message
                                  : "?");
        grv_strip_show_selected(w);
        grv_trace(is_stopped ? "stopped" : "failed");
    }
    show_idle(w);
}

static void on_work(void *user, grv_work *work, const rv_event *e)
{
    grv_window *w = user;
    if (w->is_closing)
        return;
    if (grv_work_state(work) >= GRV_DONE) {
        on_end(w, work);
        return;
    }
    if (!e)
        return;
    if (e->kind == RV_EVENT_STARTED)
        show_progress(w, 0, _("Reading the prompt"));
    if (e->kind == RV_EVENT_STEP) {
        grv_trace("step %d", e->step);
        show_step(w, work, e);
        if (e->preview)
            show_preview(w, work, e->preview);
    }
    if (e->kind == RV_EVENT_IMAGE)
        grv_strip_arrived(w, work, e->index);
}

/* The oldest ended works go; their pictures stay in the history. */
static void limit(grv_window *w)
{
    for (guint i = 0; w->works->len > GRV_WORKS && i < w->works->len; i++) {
        grv_work *old = g_ptr_array_index(w->works, i);
        if (grv_work_state(old) < GRV_DONE)
            continue;
        for (guint k = 0; k < w->entries->len; k++) {
            grv_entry *e = g_ptr_array_index(w->entries, k);
            if (e->work == old)
                e->work = NULL;
        }
        g_ptr_array_remove_index(w->works, i);
        grv_work_free(old);
        return;
    }
}

void grv_jobs_start(grv_window *w, grv_work *work)
{
    grv_trace("pressed");
    limit(w);
    g_ptr_array_add(w->works, work);
    grv_window_say(w, GTK_MESSAGE_INFO, NULL);
    grv_strip_expect(w, work);
    grv_work_start(work, on_work, w);
    grv_unfinished_set(grv_jobs_running(w));
    if (grv_jobs_running(w) == 1)
        show_progress(w, 0, _("Starting the engine"));
    grv_window_update(w);
}

void grv_jobs_stop(grv_window *w, bool all)
{
    grv_work *first = front(w);
    for (guint i = 0; all && i < w->works->len; i++)
        grv_work_cancel(g_ptr_array_index(w->works, i));
    if (first && !all)
        grv_work_cancel(first);
}

void grv_jobs_close(grv_window *w)
{
    grv_jobs_clear(w);
    grv_unfinished_set(0);
    for (guint i = 0; i < w->works->len; i++)
        grv_work_free(g_ptr_array_index(w->works, i));
    g_ptr_array_unref(w->works);
}
