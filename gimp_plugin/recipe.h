/* The recipe that generated layers carry through XCF files: the request as text, attached as a
 * parasite.  Files come from strangers: what is read is bounded and checked. */
#ifndef GRV_RECIPE_H
#define GRV_RECIPE_H

#include <libgimp/gimp.h>

#include "request.h"

#define GRV_RECIPE  "reverie-request"  /* of a layer          */
#define GRV_RECIPES "reverie-requests" /* of an image: an array of all that went into it */

void grv_recipe_attach(GimpLayer *layer, const char *text); /* and to its image's list */
char *grv_recipe_text(GimpItem *layer);                     /* (g_free) NULL: it has none */

/* The request again (grv_request_free) and what the maker added (out: cJSON_Delete; may be NULL).
 */
grv_request *grv_recipe_read(GimpItem *layer, cJSON **result, GError **error);

/* Removes all of the image and its layers in one undo step; how many there were. */
int grv_recipe_strip(GimpImage *image);

#endif
