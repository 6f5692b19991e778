/* For the programs of this project only: model cards of the source tree. */
#ifndef RV_TREE_H
#define RV_TREE_H

#include "reverie.h"

/* Adds config/models of the tree this program was built in, unless cards were given or are
 * installed. */
void rv__tree_models(rv *r);

#endif
